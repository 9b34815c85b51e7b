_base_ = './_base_/ssdlite_cvnets_coco.py'
