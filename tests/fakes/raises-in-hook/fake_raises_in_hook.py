from coembed import hookimpl


@hookimpl
def coembed_encoders():
    raise RuntimeError("the hook itself fails")
