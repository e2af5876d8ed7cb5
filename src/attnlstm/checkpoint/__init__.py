"""One file that holds everything a model needs: its bytes, its content, and how it is loaded."""
