# Nothing here is for Python: loadtest/engine.pyx is the face of the loop.
