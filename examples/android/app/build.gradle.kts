plugins {
    id("com.android.application") version "8.7.3"
    id("org.jetbrains.kotlin.android") version "2.2.21"
}

android {
    namespace = "mobileone"
    compileSdk = 35
    defaultConfig {
        applicationId = "mobileone.camera"
        minSdk = 28
        targetSdk = 35
    }
    androidResources { noCompress += "tflite" }
}

kotlin { jvmToolchain(17) }

dependencies {
    implementation("androidx.activity:activity:1.9.3")
    implementation("androidx.camera:camera-camera2:1.5.0")
    implementation("androidx.camera:camera-lifecycle:1.5.0")
    implementation("com.google.ai.edge.litert:litert:2.2.0")
    testImplementation("junit:junit:4.13.2")
    testImplementation("org.json:json:20251224")
}
