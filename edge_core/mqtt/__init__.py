"""MQTT 5 connections to a broker: one for activations, one for all other messages."""
