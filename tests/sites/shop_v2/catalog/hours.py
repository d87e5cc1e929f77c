OPENING_HOURS = "Monday to Friday, 8:00 to 18:00"
