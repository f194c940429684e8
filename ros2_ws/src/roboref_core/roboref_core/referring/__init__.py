"""From a question to an answer: marks, frames, search in views and memory."""
