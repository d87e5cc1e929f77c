"""Processes of several releases beside each other, each in a unit named after its release."""
