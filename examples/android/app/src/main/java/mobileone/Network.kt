// Not built here. The model in LiteRT.
package mobileone

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

// Boxes in pixels of the input, or the label map (H, W).
class Answer(val boxes: List<Box> = emptyList(), val labels: IntArray? = null)

class Network(context: Context, file: String, private val info: ModelInfo) {
    private val model = CompiledModel.create(context.assets, file, CompiledModel.Options(Accelerator.CPU))
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    fun run(pixels: IntArray): Answer {
        inputs[0].writeFloat(normalize(pixels, info.input))
        model.run(inputs, outputs)
        val named = info.outputs.zip(outputs).toMap()
        if (!info.detects) return Answer(labels = named.getValue("labels").readInt())
        val (scores, boxes) = listOf("scores", "boxes").map { named.getValue(it).readFloat() }
        return Answer(detections(scores, boxes, info.decode.levels, info.thresholds))
    }
}
