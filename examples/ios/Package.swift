// swift-tools-version:5.9
// `swift test` holds the post-processing to the vectors; the app itself is built by Xcode.
import PackageDescription

let package = Package(
    name: "Postprocess",
    targets: [
        .target(name: "Postprocess", path: "Postprocess"),
        .testTarget(
            name: "PostprocessTests", dependencies: ["Postprocess"], path: "PostprocessTests"),
    ]
)
