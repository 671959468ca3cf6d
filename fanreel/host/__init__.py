"""What this machine is: its devices, store and limits put together; doctor and calibration.

Uses sessions, store, intake and below.

Public:

    calibrate: Effort, calibrate
    calibration: Calibration, CurvePoint, DeviceCalibration, calibration_from_json, calibration_speeds,
        calibration_to_json
    calibration_picture: draw_calibration
    calibration_report: calibration_rows, calibration_table, keep_calibration
    doctor: diagnose
    host: Host, current_host, open_host
    reference_film: ReferenceFilm
"""
