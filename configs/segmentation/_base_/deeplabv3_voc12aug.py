"""The recipe on Pascal VOC 2012 with SBD's extra annotations (10,582 training images).

`tools/prepare_data.py voc12aug` puts the data in place. The paper's 'augmented Pascal VOC' is
cvnets', which also trains on the images of COCO that show VOC's classes (use_coco_data: true).
mmsegmentation has no such set, so expect a lower mIoU than the paper's Table 11b.
"""
_base_ = ['./deeplabv3.py', 'mmseg::_base_/datasets/pascal_voc12_aug.py']

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    # [cvnets]: the short side 256 to 768, the long side at most 1024
    dict(type='RandomResize', scale=[(1024, 256), (1024, 768)], keep_ratio=True),
    dict(type='RandomRotate', prob=1.0, degree=10, pad_val=0, seg_pad_val=255),  # [cvnets]
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),  # [cvnets]
    dict(type='RandomFlip', prob=0.5),  # [cvnets]
    dict(type='PhotoMetricDistortion'),  # [cvnets], with mmseg's strengths
    # [cvnets] also blurs ('random_gaussian_noise'): mmseg has no such transform for images
    dict(type='PackSegInputs')
]
dataset_train = dict(
    type='PascalVOCDataset',
    data_root='data/VOCdevkit/VOC2012',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    ann_file='ImageSets/Segmentation/train.txt',
    pipeline=train_pipeline)
dataset_aug = dict(
    type='PascalVOCDataset',
    data_root='data/VOCdevkit/VOC2012',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
    ann_file='ImageSets/Segmentation/aug.txt',
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=16,  # [cvnets], on each of 4 GPUs
    drop_last=True,  # a last batch of one image would stop the batch norm of the image pooling
    sampler=dict(type='DefaultSampler', shuffle=True),  # epochs, not iterations
    dataset=dict(type='ConcatDataset', datasets=[dataset_train, dataset_aug]))
# Validation is [mmseg]'s: short side 512, whole images, one at a time; [cvnets] resizes to 512x512.
model = dict(decode_head=dict(num_classes=21), auxiliary_head=dict(num_classes=21))
