"""What a bare Python 3.6 needs where a path is not ASCII: it reads paths by the locale."""

UTF8 = {"LC_ALL": "C.UTF-8"}
