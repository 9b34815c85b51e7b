// The part of NAME.json that this app needs. Android includes org.json; the tests use the JVM's copy.
package mobileone

import org.json.JSONArray
import org.json.JSONObject

class Input(json: JSONObject) {
    val tensor: String = json.optString("tensor")
    val layout: String = json.getString("layout")
    val channels: String = json.getString("channels")
    val mean = json.getJSONArray("mean").floats()
    val std = json.getJSONArray("std").floats()
}

class Level(json: JSONObject) {
    val height = json.getJSONArray("size").getInt(0)
    val width = json.getJSONArray("size").getInt(1)
    val strideX = json.getJSONArray("stride").getDouble(0).toFloat()
    val strideY = json.getJSONArray("stride").getDouble(1).toFloat()
    val anchors = json.getJSONArray("anchors").map { getJSONArray(it).floats() }
}

class Decode(json: JSONObject) {
    val height = json.getJSONArray("size").getInt(0)
    val width = json.getJSONArray("size").getInt(1)
    val levels = levels(json.getJSONArray("levels"))
    val means = json.getJSONArray("means").floats()
    val stds = json.getJSONArray("stds").floats()
    val clip = json.getBoolean("clip")
}

class Thresholds(json: JSONObject) {
    val scoreThr = json.getDouble("score_thr").toFloat()
    val nmsPre = json.getInt("nms_pre")
    val minBboxSize = json.getDouble("min_bbox_size").toFloat()
    val iouThreshold = json.getDouble("iou_threshold").toFloat()
    val maxPerImg = json.getInt("max_per_img")
}

class ModelInfo(text: String) {
    private val json = JSONObject(text).also {
        require(it.getInt("format") == 2) { "the .json has format ${it.get("format")}, this app reads 2" }
    }
    val detects = json.getString("task") == "detection"
    val height = json.getJSONArray("shape").getInt(2)
    val width = json.getJSONArray("shape").getInt(3)
    val input = Input(json.getJSONObject("input"))
    val outputs = json.getJSONArray("outputs").map { getJSONObject(it).getString("name") }
    val classes = json.getJSONArray("classes").map { getString(it) }
    val palette = json.getJSONArray("palette").map { getJSONArray(it).floats() }
    val decode by lazy { Decode(json.getJSONObject("decode")) }
    val thresholds by lazy { Thresholds(json.getJSONObject("thresholds")) }
}

fun levels(array: JSONArray) = array.map { Level(getJSONObject(it)) }

fun JSONArray.floats() = FloatArray(length()) { getDouble(it).toFloat() }

fun <T> JSONArray.map(item: JSONArray.(Int) -> T): List<T> = (0 until length()).map { item(it) }
