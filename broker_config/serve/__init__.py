"""The brokers that this program can run as child processes: mosquitto and rumqttd."""
