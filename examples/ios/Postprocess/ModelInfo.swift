// The part of NAME.json that apps need.
import Foundation

struct Input: Decodable {
    let layout, channels: String
    let mean, std: [Float]
}

struct Level: Decodable {
    let size: [Int]  // height, width
    let stride: [Float]  // x, y
    let anchors: [[Float]]
}

struct Decode: Decodable {
    let size: [Int]  // height, width
    let levels: [Level]
    let means, stds: [Float]
    let clip: Bool
}

struct Thresholds: Decodable {
    let scoreThr: Float
    let nmsPre: Int
    let minBboxSize: Float
    let iouThreshold: Float
    let maxPerImg: Int
}

struct LabelMap: Decodable {
    let alignCorners: Bool
    let threshold: Float?
}

/// `nil` where the JSON has an empty object, as for a segmentor.
struct Perhaps<T: Decodable>: Decodable {
    let value: T?

    init(from decoder: Decoder) { value = try? T(from: decoder) }
}

struct ModelInfo: Decodable {
    struct Output: Decodable {
        let name: String
    }

    let format: Int
    let task: String
    let shape: [Int]
    let input: Input
    let outputs: [Output]
    let classes: [String]
    let palette: [[Int]]
    let decode: Perhaps<Decode>
    let thresholds: Perhaps<Thresholds>

    static func read(_ json: Data) throws -> ModelInfo {
        let info = try decoder.decode(ModelInfo.self, from: json)
        guard info.format == 2 else { throw CocoaError(.coderReadCorrupt) }
        return info
    }

    static let decoder: JSONDecoder = {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return decoder
    }()
}
