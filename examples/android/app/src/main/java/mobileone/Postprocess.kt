// Pre- and post-processing: a port of examples/python/reference.py to Kotlin that uses
// nothing from Android. P anchors over all levels, C classes; boxes are x1, y1, x2, y2.
package mobileone

import kotlin.math.exp
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

// The limit of a box's size over its anchor's: log(1000 / 16).
private const val MAX_LOG_RATIO = 4.135166556742356f

class Box(val x1: Float, val y1: Float, val x2: Float, val y2: Float, val score: Float, val label: Int)

/** Pixels 0xAARRGGBB, row by row, as floats in the order and scale the network expects. */
fun normalize(pixels: IntArray, input: Input): FloatArray {
    val shifts = if (input.channels == "RGB") intArrayOf(16, 8, 0) else intArrayOf(0, 8, 16)
    val last = input.layout == "NHWC"
    val result = FloatArray(3 * pixels.size)
    for (channel in 0..2) {
        for (i in pixels.indices) {
            val value = (pixels[i] shr shifts[channel] and 0xFF).toFloat()
            val position = if (last) 3 * i + channel else channel * pixels.size + i
            result[position] = (value - input.mean[channel]) / input.std[channel]
        }
    }
    return result
}

/** The anchors (P, 4), flat: level by level, row by row, cell by cell. */
fun anchors(levels: List<Level>): FloatArray {
    val result = ArrayList<Float>()
    for (level in levels) {
        for (y in 0 until level.height) {
            for (x in 0 until level.width) {
                for (box in level.anchors) {
                    for (k in 0..3) {
                        result += box[k] + if (k % 2 == 0) x * level.strideX else y * level.strideY
                    }
                }
            }
        }
    }
    return result.toFloatArray()
}

/** Boxes (P, 4) from deltas (P, 4), both flat. */
fun decode(deltas: FloatArray, settings: Decode): FloatArray {
    val priors = anchors(settings.levels)
    val boxes = FloatArray(deltas.size)
    for (i in deltas.indices step 4) {
        for (axis in 0..1) {
            val low = priors[i + axis]
            val size = priors[i + axis + 2] - low
            val move = deltas[i + axis] * settings.stds[axis] + settings.means[axis]
            val grow = deltas[i + axis + 2] * settings.stds[axis + 2] + settings.means[axis + 2]
            val center = low + size / 2 + size * move
            val half = size * exp(grow.coerceIn(-MAX_LOG_RATIO, MAX_LOG_RATIO)) / 2
            val limit = (if (axis == 0) settings.width else settings.height).toFloat()
            boxes[i + axis] = if (settings.clip) (center - half).coerceIn(0f, limit) else center - half
            boxes[i + axis + 2] = if (settings.clip) (center + half).coerceIn(0f, limit) else center + half
        }
    }
    return boxes
}

/** The boxes that mmdet would keep, best first, from boxes (P, 4) and scores (P, C). */
fun detections(scores: FloatArray, boxes: FloatArray, levels: List<Level>, thresholds: Thresholds): List<Box> {
    val classes = scores.size / (boxes.size / 4)
    val candidates = ArrayList<Box>()
    var start = 0
    for (level in levels) {
        val end = start + level.height * level.width * level.anchors.size
        var pairs = (start * classes until end * classes).filter { scores[it] > thresholds.scoreThr }
            .sortedByDescending { scores[it] } // stable: equal scores keep their order
        if (thresholds.nmsPre >= 0) pairs = pairs.take(thresholds.nmsPre)
        for (pair in pairs) {
            val i = pair / classes * 4
            candidates += Box(boxes[i], boxes[i + 1], boxes[i + 2], boxes[i + 3], scores[pair], pair % classes)
        }
        start = end
    }
    val least = thresholds.minBboxSize
    return nms(
        candidates.filter { it.x2 - it.x1 > least && it.y2 - it.y1 > least },
        thresholds.iouThreshold,
        thresholds.maxPerImg,
    )
}

/** Greedy non-maximum suppression per class. */
fun nms(boxes: List<Box>, iouThreshold: Float, limit: Int): List<Box> {
    val keep = ArrayList<Box>()
    for (box in boxes.sortedByDescending { it.score }) {
        if (keep.size == limit) break
        if (keep.none { it.label == box.label && iou(it, box) > iouThreshold }) keep += box
    }
    return keep
}

fun iou(a: Box, b: Box): Float {
    val width = max(0f, min(a.x2, b.x2) - max(a.x1, b.x1))
    val height = max(0f, min(a.y2, b.y2) - max(a.y1, b.y1))
    val shared = width * height
    val union = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared
    return if (union > 0) shared / union else 0f
}

/** Labels (height, width), flat, from logits (C, rows, columns) after bilinear upsampling. */
fun labelMap(
    logits: FloatArray,
    shape: List<Int>,
    height: Int,
    width: Int,
    alignCorners: Boolean,
    threshold: Float?,
): IntArray {
    val (classes, rows, columns) = shape
    return IntArray(height * width) { pixel ->
        val y = position(pixel / width, rows, height, alignCorners)
        val x = position(pixel % width, columns, width, alignCorners)
        val (top, left) = Pair(floor(y).toInt(), floor(x).toInt())
        val (bottom, right) = Pair(min(top + 1, rows - 1), min(left + 1, columns - 1))
        var best = 0
        var highest = Float.NEGATIVE_INFINITY
        for (label in 0 until classes) {
            val plane = label * rows * columns
            val above = mix(logits[plane + top * columns + left], logits[plane + top * columns + right], x - left)
            val below = mix(logits[plane + bottom * columns + left], logits[plane + bottom * columns + right], x - left)
            val value = mix(above, below, y - top)
            if (value > highest) {
                highest = value
                best = label
            }
        }
        if (threshold == null) best else if (1 / (1 + exp(-highest)) > threshold) 1 else 0
    }
}

private fun mix(a: Float, b: Float, part: Float) = a * (1 - part) + b * part

private fun position(pixel: Int, source: Int, target: Int, alignCorners: Boolean): Float {
    val exact =
        if (alignCorners) {
            pixel * ((source - 1f) / max(target - 1, 1))
        } else {
            (pixel + .5f) * source / target - .5f
        }
    return exact.coerceIn(0f, source - 1f)
}
