// Not built here. Shows the back camera's frames with labeled boxes or a label map on top.
package mobileone

import android.Manifest
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Matrix
import android.graphics.Paint
import android.graphics.Rect
import android.os.Bundle
import android.widget.ImageView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.core.content.ContextCompat
import java.util.concurrent.Executors

class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private val view by lazy { ImageView(this) }
    private val info by lazy { ModelInfo(assets.open("model.json").bufferedReader().readText()) }
    private val network by lazy { Network(this, "model.tflite", info) }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(view)
        registerForActivityResult(ActivityResultContracts.RequestPermission()) { if (it) start() }
            .launch(Manifest.permission.CAMERA)
    }

    private fun start() {
        val provider = ProcessCameraProvider.getInstance(this)
        provider.addListener({
            val analysis = ImageAnalysis.Builder()
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                .build()
            analysis.setAnalyzer(worker) { frame -> frame.use { show(it) } }
            provider.get().bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, analysis)
        }, ContextCompat.getMainExecutor(this))
    }

    private fun show(frame: ImageProxy) {
        val turn = Matrix().apply { postRotate(frame.imageInfo.rotationDegrees.toFloat()) }
        val picture = Bitmap.createBitmap(frame.toBitmap(), 0, 0, frame.width, frame.height, turn, true)
        // Stretched, like the config's Resize(keep_ratio=False).
        val small = Bitmap.createScaledBitmap(picture, info.width, info.height, true)
        val pixels = IntArray(info.width * info.height)
        small.getPixels(pixels, 0, info.width, 0, 0, info.width, info.height)
        val drawn = picture.copy(Bitmap.Config.ARGB_8888, true)
        draw(Canvas(drawn), network.run(pixels))
        runOnUiThread { view.setImageBitmap(drawn) }
    }

    private fun draw(canvas: Canvas, answer: Answer) {
        val paint = Paint().apply { textSize = 24f; strokeWidth = 3f }
        answer.labels?.let { labels ->
            val colors = IntArray(labels.size) { color(labels[it]) }
            val map = Bitmap.createBitmap(colors, info.width, info.height, Bitmap.Config.ARGB_8888)
            paint.alpha = 128
            canvas.drawBitmap(map, null, Rect(0, 0, canvas.width, canvas.height), paint)
        }
        val scaleX = canvas.width / info.width.toFloat()
        val scaleY = canvas.height / info.height.toFloat()
        for (box in answer.boxes.filter { it.score > .3f }) {
            val (left, top) = Pair(box.x1 * scaleX, box.y1 * scaleY)
            paint.color = color(box.label)
            paint.style = Paint.Style.STROKE
            canvas.drawRect(left, top, box.x2 * scaleX, box.y2 * scaleY, paint)
            paint.style = Paint.Style.FILL
            canvas.drawText("%s %.2f".format(info.classes[box.label], box.score), left, top - 4, paint)
        }
    }

    private fun color(label: Int): Int {
        val (red, green, blue) = info.palette[label].map { it.toInt() }
        return Color.rgb(red, green, blue)
    }
}
