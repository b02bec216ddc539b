# Nothing here is for Python: workers/dataplane.pyx has the face.
