OPENING_HOURS = "Monday to Friday, 9:00 to 17:00"
