// Checks the port against the NumPy reference: examples/python/make_fixtures.py writes the vectors.
package mobileone

import java.io.File
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

class PostprocessTest {
    private val vectors = JSONObject(File("../../fixtures/vectors.json").readText())

    private fun cases(name: String) = vectors.getJSONArray(name).map { getJSONObject(it) }

    private fun JSONObject.array(name: String): JSONArray = getJSONArray(name)

    private fun JSONArray.ints() = IntArray(length()) { getInt(it) }

    @Test
    fun normalizes() {
        for (case in cases("normalize")) {
            val rgb = case.array("rgb").ints()
            val pixels = IntArray(rgb.size / 3) {
                (0xFF shl 24) or (rgb[3 * it] shl 16) or (rgb[3 * it + 1] shl 8) or rgb[3 * it + 2]
            }
            val actual = normalize(pixels, Input(case.getJSONObject("input")))
            assertArrayEquals(case.array("expected").floats(), actual, 1e-5f)
        }
    }

    @Test
    fun decodes() {
        for (case in cases("decode")) {
            val actual = decode(case.array("deltas").floats(), Decode(case.getJSONObject("decode")))
            assertArrayEquals(case.array("expected").floats(), actual, 1e-3f)
        }
    }

    @Test
    fun detects() {
        for (case in cases("detections")) {
            val found = detections(
                case.array("scores").floats(),
                case.array("boxes").floats(),
                levels(case.array("levels")),
                Thresholds(case.getJSONObject("thresholds")),
            )
            val expected = case.getJSONObject("expected")
            val corners = found.flatMap { listOf(it.x1, it.y1, it.x2, it.y2) }.toFloatArray()
            assertArrayEquals(expected.array("boxes").floats(), corners, 0f)
            assertArrayEquals(expected.array("scores").floats(), found.map { it.score }.toFloatArray(), 0f)
            assertArrayEquals(expected.array("labels").ints(), found.map { it.label }.toIntArray())
        }
    }

    @Test
    fun labelsPixels() {
        for (case in cases("label_map")) {
            val settings = case.getJSONObject("decode")
            val size = case.array("size").ints()
            val actual = labelMap(
                case.array("logits").floats(),
                case.array("shape").ints().toList(),
                size[0],
                size[1],
                settings.getBoolean("align_corners"),
                if (settings.isNull("threshold")) null else settings.getDouble("threshold").toFloat(),
            )
            assertArrayEquals(case.array("expected").ints(), actual)
        }
    }

    @Test
    fun readsTheJson() {
        val info = ModelInfo(vectors.getJSONObject("info").toString())
        assertEquals(listOf("scores", "boxes"), info.outputs)
        assertEquals(listOf(40, 56), listOf(info.height, info.width))
        assertEquals(2, info.decode.levels.size)
        assertEquals(.45f, info.thresholds.iouThreshold)
        assertEquals(info.classes.size, info.palette.size)
    }
}
