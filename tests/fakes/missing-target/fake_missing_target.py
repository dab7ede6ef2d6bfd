from coembed import EncoderSpec, hookimpl


@hookimpl
def coembed_encoders():
    yield EncoderSpec(name="missing/a", modality="text", dim=16, target="fake_nowhere:Gone", layers=2, license="MIT")
