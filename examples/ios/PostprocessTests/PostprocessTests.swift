// Checks the port against the NumPy reference: examples/python/make_fixtures.py writes the vectors.
import Foundation
import XCTest

@testable import Postprocess

struct Vectors: Decodable {
    struct Normalize: Decodable {
        let rgb: [UInt8]
        let input: Input
        let expected: [Float]
    }

    struct DecodeCase: Decodable {
        let deltas: [Float]
        let decode: Decode
        let expected: [Float]
    }

    struct Detections: Decodable {
        struct Expected: Decodable {
            let boxes, scores: [Float]
            let labels: [Int]
        }

        let scores, boxes: [Float]
        let levels: [Level]
        let thresholds: Thresholds
        let expected: Expected
    }

    struct LabelMapCase: Decodable {
        let logits: [Float]
        let shape, size, expected: [Int]
        let decode: LabelMap
    }

    let normalize: [Normalize]
    let decode: [DecodeCase]
    let detections: [Detections]
    let labelMap: [LabelMapCase]
    let info: ModelInfo
}

final class PostprocessTests: XCTestCase {
    static let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../fixtures/vectors.json")

    func vectors() throws -> Vectors {
        try ModelInfo.decoder.decode(Vectors.self, from: Data(contentsOf: Self.file))
    }

    func testNormalize() throws {
        for sample in try vectors().normalize {
            let actual = Postprocess.normalize(rgb: sample.rgb, input: sample.input)
            equal(actual, sample.expected, 1e-5)
        }
    }

    func testDecode() throws {
        for sample in try vectors().decode {
            equal(Postprocess.decode(sample.deltas, sample.decode), sample.expected, 1e-3)
        }
    }

    func testDetections() throws {
        for sample in try vectors().detections {
            let found = Postprocess.detections(
                scores: sample.scores, boxes: sample.boxes, levels: sample.levels,
                thresholds: sample.thresholds)
            XCTAssertEqual(found.flatMap { [$0.x1, $0.y1, $0.x2, $0.y2] }, sample.expected.boxes)
            XCTAssertEqual(found.map { $0.score }, sample.expected.scores)
            XCTAssertEqual(found.map { $0.label }, sample.expected.labels)
        }
    }

    func testLabelMap() throws {
        for sample in try vectors().labelMap {
            let labels = Postprocess.labelMap(
                logits: sample.logits, shape: sample.shape, height: sample.size[0],
                width: sample.size[1], settings: sample.decode)
            XCTAssertEqual(labels, sample.expected)
        }
    }

    func testInfo() throws {
        let info = try vectors().info
        XCTAssertEqual(info.outputs.map { $0.name }, ["scores", "boxes"])
        XCTAssertEqual(info.shape, [1, 3, 40, 56])
        XCTAssertEqual(info.classes.count, info.palette.count)
        XCTAssertEqual(info.decode.value?.levels.count, 2)
        XCTAssertEqual(info.thresholds.value?.iouThreshold, 0.45)
    }

    private func equal(_ actual: [Float], _ expected: [Float], _ tolerance: Float) {
        XCTAssertEqual(actual.count, expected.count)
        for (one, other) in zip(actual, expected) {
            XCTAssertEqual(one, other, accuracy: tolerance)
        }
    }
}
