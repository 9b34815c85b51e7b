"""The recipe on Pascal VOC 2012 with SBD's extra annotations (10,582 training images).

`tools/prepare_data.py voc12aug` puts the data in place. The paper's 'augmented Pascal VOC' is
cvnets', which also trains on COCO's images of VOC's classes (use_coco_data: true), as do the
configs *_voc12coco.py. This one is the default because it needs 3 GB of downloads instead of 22.
Expect a lower mIoU than in the paper's Table 11b.
"""
_base_ = ['./deeplabv3.py', 'mmseg::_base_/datasets/pascal_voc12_aug.py']

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    # In [cvnets]' order. Short side 256 to 768, long side at most 1024; bilinear
    dict(type='RandomResize', scale=[(1024, 256), (1024, 768)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    # Black below and to the right of smaller images, ignored by the loss
    dict(type='Pad', size=(512, 512), pad_val=dict(img=0, seg=255)),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomGaussianBlur'),  # [cvnets]: 'random_gaussian_noise'
    # [cvnets]: contrast and saturation 0.5 to 1.5, brightness 0.875 to 1.125, hue +-18 degrees.
    # mmseg adds to the brightness, +-32 of 255, where cvnets multiplies; its contrast and
    # saturation scale the values, cvnets' their distance to gray; half of cvnets' images get their
    # channels permuted, which mmseg cannot do
    dict(type='PhotoMetricDistortion', hue_delta=9),  # of 180
    dict(type='RandomRotate', prob=1.0, degree=10, pad_val=0, seg_pad_val=255),
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
dataset_coco = dict(  # made by `tools/prepare_data.py voc12coco`; see *_voc12coco.py
    type='PascalVOCDataset',
    data_root='data/coco',
    data_prefix=dict(img_path='train2017', seg_map_path='voc_masks/train2017'),
    ann_file='voc_masks/train2017.txt',
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=16,  # [cvnets], on each of 4 GPUs
    drop_last=True,  # the batch norm of the image pooling cannot train on a last batch of one image
    sampler=dict(type='DefaultSampler', shuffle=True),  # epochs, not iterations
    dataset=dict(type='ConcatDataset', datasets=[dataset_train, dataset_aug]))
# Whole images, one at a time, short side 512, mIoU at the original size: mmseg's protocol, and one
# of cvnets' (resize-input-images). For the other (resize-input-images-fixed-size), use
# tools/test.py --resize 512x512. During training, cvnets also resizes the masks for validation.
model = dict(decode_head=dict(num_classes=21), auxiliary_head=dict(num_classes=21))
