"""How the starter weights were made: scenes, corruptions, recipe. Not part of the installed package."""
