import time

from coembed import EncoderSpec, hookimpl

time.sleep(1)  # what a plugin's __init__ must not do


@hookimpl
def coembed_encoders():
    target = "coembed.testing.toy:ToyEncoder"
    yield EncoderSpec(name="slow/bytes", modality="text", dim=16, target=target, layers=2, license="MIT")
