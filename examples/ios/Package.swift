// swift-tools-version:5.9
// `swift test` checks the post-processing against the vectors; Xcode builds the app itself.
import PackageDescription

let package = Package(
    name: "Postprocess",
    targets: [
        .target(name: "Postprocess", path: "Postprocess"),
        .testTarget(
            name: "PostprocessTests", dependencies: ["Postprocess"], path: "PostprocessTests"),
    ]
)
