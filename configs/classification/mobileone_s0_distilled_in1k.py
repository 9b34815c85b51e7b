"""S0 trained on a ResNet-50's outputs instead of labels.

The paper's distilled row of Table 9 (S0: 72.5%) comes from MEAL V2 (arXiv 2009.08453), which starts
from the trained student, averages two large teachers and adds a discriminator. This config has only
its main loss, the KL divergence from the teacher's outputs. Teacher, schedule and weights are our
choice. It was not run on ImageNet here. Start from a trained student with
--cfg-options load_from=CHECKPOINT
"""
_base_ = './mobileone_s0_in1k.py'
custom_imports = dict(imports=['mobileone_mm.classification'], allow_failed_imports=False)

model = dict(
    type='mmengine.DistilledClassifier',
    teachers=[
        dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=50, num_stages=4, out_indices=(3, )),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048),
            checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/'
            'resnet50_8xb256-rsb-a1-600e_in1k_20211228-20e21305.pth')
    ])
