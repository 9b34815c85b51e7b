// Not built here. Shows the back camera's frames with labeled boxes or a label map on top.
import AVFoundation
import CoreML
import SwiftUI
import Vision

@main
struct CameraApp: App {
    @StateObject private var camera = Camera()

    var body: some Scene {
        WindowGroup { AnswerView(answer: camera.answer).task { await camera.start() } }
    }
}

/// What the screen shows: a frame and the model's prediction.
struct Answer {
    var frame: CGImage
    var boxes: [VNRecognizedObjectObservation] = []
    var labels: CGImage?
}

struct AnswerView: View {
    let answer: Answer?

    var body: some View {
        if let answer {
            Image(decorative: answer.frame, scale: 1).resizable().scaledToFit().overlay {
                Canvas { context, size in
                    if let labels = answer.labels {
                        let map = Image(decorative: labels, scale: 1)
                        context.opacity = 0.5
                        context.draw(map, in: CGRect(origin: .zero, size: size))
                    }
                    for box in answer.boxes {
                        let part = box.boundingBox  // from 0 to 1, origin at the bottom left
                        let rect = CGRect(
                            x: part.minX * size.width, y: (1 - part.maxY) * size.height,
                            width: part.width * size.width, height: part.height * size.height)
                        context.stroke(Path(rect), with: .color(.yellow), lineWidth: 2)
                        let text = "\(box.labels[0].identifier) \(Int(box.confidence * 100)) %"
                        context.draw(
                            Text(text).foregroundColor(.yellow), at: rect.origin,
                            anchor: .bottomLeading)
                    }
                }
            }
        } else {
            Text("No picture yet")
        }
    }
}

final class Camera: NSObject, ObservableObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    @Published var answer: Answer?
    private let session = AVCaptureSession()
    private let queue = DispatchQueue(label: "camera")
    private let images = CIContext()
    private let info: ModelInfo
    private let request: VNCoreMLRequest

    override init() {
        // Model.mlpackage and Model.json from tools/deploy.py; Xcode compiles the package.
        func url(_ kind: String) -> URL {
            Bundle.main.url(forResource: "Model", withExtension: kind)!
        }
        info = try! ModelInfo.read(Data(contentsOf: url("json")))
        let model = try! VNCoreMLModel(for: MLModel(contentsOf: url("mlmodelc")))
        let request = VNCoreMLRequest(model: model)
        request.imageCropAndScaleOption = .scaleFill  // like the config's Resize(keep_ratio=False)
        self.request = request
        super.init()
    }

    func start() async {
        guard await AVCaptureDevice.requestAccess(for: .video),
            let device = AVCaptureDevice.default(for: .video),
            let input = try? AVCaptureDeviceInput(device: device)
        else { return }
        let output = AVCaptureVideoDataOutput()
        output.videoSettings = [
            kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA
        ]
        output.setSampleBufferDelegate(self, queue: queue)
        session.sessionPreset = .vga640x480
        session.addInput(input)
        session.addOutput(output)
        queue.async { self.session.startRunning() }
    }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput buffer: CMSampleBuffer,
        from connection: AVCaptureConnection
    ) {
        guard let pixels = CMSampleBufferGetImageBuffer(buffer) else { return }
        let image = CIImage(cvPixelBuffer: pixels).oriented(.right)  // the phone is held upright
        guard let frame = images.createCGImage(image, from: image.extent) else { return }
        try? VNImageRequestHandler(cgImage: frame).perform([request])
        var answer = Answer(frame: frame)
        let boxes = request.results as? [VNRecognizedObjectObservation] ?? []
        answer.boxes = boxes.filter { $0.confidence > 0.3 }
        if let map = request.results?.first as? VNCoreMLFeatureValueObservation,
            let labels = map.featureValue.multiArrayValue
        {
            answer.labels = picture(of: labels)
        }
        DispatchQueue.main.async { [answer] in self.answer = answer }
    }

    /// Labels (H, W) as a picture in the classes' colors.
    private func picture(of labels: MLMultiArray) -> CGImage? {
        let (height, width) = (labels.shape[0].intValue, labels.shape[1].intValue)
        let colors = info.palette.map { color in color.map { UInt8($0) } + [255] }
        let pixels = (0..<labels.count).flatMap { colors[labels[$0].intValue] }
        return CGImage(
            width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 32,
            bytesPerRow: 4 * width, space: CGColorSpaceCreateDeviceRGB(),
            bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.noneSkipLast.rawValue),
            provider: CGDataProvider(data: Data(pixels) as CFData)!, decode: nil,
            shouldInterpolate: false, intent: .defaultIntent)
    }
}
