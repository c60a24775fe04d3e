"""The web page over a store: `tamis ui`, and the same views as a file of their own."""
