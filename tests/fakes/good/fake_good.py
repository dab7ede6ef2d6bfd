from coembed import EncoderSpec, hookimpl


@hookimpl
def coembed_encoders():
    prompts = {"query": "query: ", "document": "document: "}
    target = "coembed.testing.toy:ToyEncoder"
    yield EncoderSpec(name="good/bytes", modality="text", dim=16, target=target, layers=2, prompts=prompts, license="MIT")
    yield EncoderSpec(
        name="good/small", modality="text", dim=8, target=target, layers=2, kwargs={"seed": 1}, license="MIT"
    )
