// Not built here. Runs the model in LiteRT.
package mobileone

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

// Boxes in pixels of the input, or a label map (H, W).
class Answer(val boxes: List<Box> = emptyList(), val labels: IntArray? = null)

class Network(context: Context, file: String, private val info: ModelInfo) {
    private val model = CompiledModel.create(context.assets, file, CompiledModel.Options(Accelerator.CPU))
    private val image = model.createInputBuffer(info.input.tensor)
    private val outputs = info.outputs.associateWith { model.createOutputBuffer(it) }

    fun run(pixels: IntArray): Answer {
        image.writeFloat(normalize(pixels, info.input))
        model.run(mapOf(info.input.tensor to image), outputs)
        if (!info.detects) return Answer(labels = outputs.getValue("labels").readInt())
        val (scores, boxes) = listOf("scores", "boxes").map { outputs.getValue(it).readFloat() }
        return Answer(detections(scores, boxes, info.decode.levels, info.thresholds))
    }
}
