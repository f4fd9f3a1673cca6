"""The front: a listening port that reads each request's head, and hands it to whoever serves it."""
