from coembed import hookimpl


@hookimpl
def coembed_encoderz():
    return []
