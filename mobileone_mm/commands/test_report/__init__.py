"""Pictures of a test: metrics of mmengine that draw what mmdet and mmseg put into tables."""
