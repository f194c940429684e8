"""Words and pictures to a vision-language model, and its text back."""
