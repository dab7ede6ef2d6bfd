"""coembed-serve: a space and its indexes over HTTP, run by `coembed serve`.

It registers no components: the command imports `coembed_serve.command` when it is called.
"""
