"""The demo: a year of New York flights, driven through the public verbs as any client would."""
