"""Parts of the fleets that are measured: devices that train nothing, models, slow links, and floors of bare MQTT."""
