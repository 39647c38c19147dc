sub/x.py
