// Pre- and post-processing: a port of examples/python/reference.py to Swift that uses
// nothing from iOS. P anchors over all levels, C classes; boxes are x1, y1, x2, y2.
// Vision and Core ML do all this themselves; .pte, .onnx and .param files need it.
import Foundation

// The limit of a box's size over its anchor's: log(1000 / 16).
private let maxLogRatio: Float = 4.135166556742356

struct Box {
    let x1, y1, x2, y2, score: Float
    let label: Int
}

/// Pixels red, green, blue, row by row, as floats in the order and scale the network expects.
func normalize(rgb: [UInt8], input: Input) -> [Float] {
    let count = rgb.count / 3
    var result = [Float](repeating: 0, count: rgb.count)
    for channel in 0..<3 {
        let source = input.channels == "RGB" ? channel : 2 - channel
        for i in 0..<count {
            let position = input.layout == "NHWC" ? 3 * i + channel : channel * count + i
            let value = Float(rgb[3 * i + source])
            result[position] = (value - input.mean[channel]) / input.std[channel]
        }
    }
    return result
}

/// The anchors (P, 4), flat: level by level, row by row, cell by cell.
func anchors(_ levels: [Level]) -> [Float] {
    var result: [Float] = []
    for level in levels {
        for y in 0..<level.size[0] {
            for x in 0..<level.size[1] {
                let (left, top) = (Float(x) * level.stride[0], Float(y) * level.stride[1])
                for box in level.anchors {
                    result += [left + box[0], top + box[1], left + box[2], top + box[3]]
                }
            }
        }
    }
    return result
}

/// Boxes (P, 4) from deltas (P, 4), both flat.
func decode(_ deltas: [Float], _ settings: Decode) -> [Float] {
    let priors = anchors(settings.levels)
    var boxes = [Float](repeating: 0, count: deltas.count)
    for i in stride(from: 0, to: deltas.count, by: 4) {
        for axis in 0..<2 {
            let size = priors[i + axis + 2] - priors[i + axis]
            let move = deltas[i + axis] * settings.stds[axis] + settings.means[axis]
            let grow = deltas[i + axis + 2] * settings.stds[axis + 2] + settings.means[axis + 2]
            let center = priors[i + axis] + size / 2 + size * move
            let half = size * exp(clamp(grow, -maxLogRatio, maxLogRatio)) / 2
            let limit = Float(settings.size[1 - axis])
            boxes[i + axis] = settings.clip ? clamp(center - half, 0, limit) : center - half
            boxes[i + axis + 2] = settings.clip ? clamp(center + half, 0, limit) : center + half
        }
    }
    return boxes
}

/// The boxes that mmdet would keep, best first, from boxes (P, 4) and scores (P, C).
func detections(
    scores: [Float], boxes: [Float], levels: [Level], thresholds: Thresholds
) -> [Box] {
    let classes = scores.count / (boxes.count / 4)
    var candidates: [Box] = []
    var start = 0
    for level in levels {
        let end = start + level.size[0] * level.size[1] * level.anchors.count
        var pairs = (start * classes..<end * classes).filter { scores[$0] > thresholds.scoreThr }
        // Equal scores keep their order.
        pairs.sort { (scores[$0], $1) > (scores[$1], $0) }
        if thresholds.nmsPre >= 0 { pairs = Array(pairs.prefix(thresholds.nmsPre)) }
        for pair in pairs {
            let i = pair / classes * 4
            candidates.append(
                Box(
                    x1: boxes[i], y1: boxes[i + 1], x2: boxes[i + 2], y2: boxes[i + 3],
                    score: scores[pair], label: pair % classes))
        }
        start = end
    }
    let least = thresholds.minBboxSize
    return nms(
        candidates.filter { $0.x2 - $0.x1 > least && $0.y2 - $0.y1 > least },
        iouThreshold: thresholds.iouThreshold, limit: thresholds.maxPerImg)
}

/// Greedy non-maximum suppression per class.
func nms(_ boxes: [Box], iouThreshold: Float, limit: Int) -> [Box] {
    let order = boxes.indices.sorted { (boxes[$0].score, $1) > (boxes[$1].score, $0) }
    var keep: [Box] = []
    for box in order.map({ boxes[$0] }) {
        if keep.count == limit { break }
        let covered = keep.contains { $0.label == box.label && iou($0, box) > iouThreshold }
        if !covered { keep.append(box) }
    }
    return keep
}

func iou(_ a: Box, _ b: Box) -> Float {
    let width = max(0, min(a.x2, b.x2) - max(a.x1, b.x1))
    let height = max(0, min(a.y2, b.y2) - max(a.y1, b.y1))
    let shared = width * height
    let union = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared
    return union > 0 ? shared / union : 0
}

/// Labels (height, width), flat, from logits (C, rows, columns) after bilinear upsampling.
func labelMap(
    logits: [Float], shape: [Int], height: Int, width: Int, settings: LabelMap
) -> [Int] {
    let (classes, rows, columns) = (shape[0], shape[1], shape[2])
    return (0..<height * width).map { pixel in
        let y = position(pixel / width, rows, height, settings.alignCorners)
        let x = position(pixel % width, columns, width, settings.alignCorners)
        let (top, left) = (Int(y), Int(x))
        let (bottom, right) = (min(top + 1, rows - 1), min(left + 1, columns - 1))
        let (down, across) = (y - Float(top), x - Float(left))
        var best = 0
        var highest = -Float.infinity
        for label in 0..<classes {
            let plane = label * rows * columns
            let (upper, lower) = (plane + top * columns, plane + bottom * columns)
            let above = mix(logits[upper + left], logits[upper + right], across)
            let below = mix(logits[lower + left], logits[lower + right], across)
            let value = mix(above, below, down)
            if value > highest { (best, highest) = (label, value) }
        }
        guard let threshold = settings.threshold else { return best }
        return 1 / (1 + exp(-highest)) > threshold ? 1 : 0
    }
}

private func mix(_ a: Float, _ b: Float, _ part: Float) -> Float { a * (1 - part) + b * part }

private func position(_ pixel: Int, _ source: Int, _ target: Int, _ alignCorners: Bool) -> Float {
    let exact =
        alignCorners
        ? Float(pixel) * Float(source - 1) / Float(max(target - 1, 1))
        : (Float(pixel) + 0.5) * Float(source) / Float(target) - 0.5
    return clamp(exact, 0, Float(source - 1))
}

private func clamp(_ value: Float, _ low: Float, _ high: Float) -> Float {
    min(max(value, low), high)
}
