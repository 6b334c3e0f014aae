"""What the demo model is trained on: word problems and small talk, made by templates."""
