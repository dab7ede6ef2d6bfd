from coembed import EncoderSpec, hookimpl


@hookimpl
def coembed_encoders():
    yield EncoderSpec(name="text/minilm", modality="text", dim=16, target="coembed.testing.toy:ToyEncoder", layers=2, license="MIT")
