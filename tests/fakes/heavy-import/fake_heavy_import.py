import torch  # what a plugin's __init__ must not do

from coembed import EncoderSpec, hookimpl


@hookimpl
def coembed_encoders():
    yield EncoderSpec(name="heavy/bytes", modality="text", dim=16, target="coembed.testing.toy:ToyEncoder", layers=2, license="MIT")
