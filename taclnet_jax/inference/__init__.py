"""What a trained network says of sections, and how it becomes segments."""
