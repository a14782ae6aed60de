"""Accuracy won back: networks under damaging arithmetic, before and after each way of mending."""
