# The paper's 'augmented Pascal VOC': VOC 2012, SBD and the images of COCO that show VOC's classes.
_base_ = './deeplabv3_mobileone_s4_voc12aug.py'

train_dataloader = dict(dataset=dict(
    datasets=[{{_base_.dataset_train}}, {{_base_.dataset_aug}}, {{_base_.dataset_coco}}]))
