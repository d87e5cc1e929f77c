"""Asked in a chat: who may, what was meant, one confirmation, one run; told in the thread."""
