from coembed import hookimpl


@hookimpl
def coembed_encoders():
    yield {"name": "dicts/a"}
