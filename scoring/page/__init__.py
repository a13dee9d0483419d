"""The page of `app.py`, on which pictures are scored and compared in a browser."""
