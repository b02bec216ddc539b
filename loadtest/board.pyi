# Nothing here is for Python: loadtest/engine.pyx has the class Board.
