"""Run the same work on several servers in alternation and compare them round by round."""
