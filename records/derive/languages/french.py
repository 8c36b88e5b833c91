"""French: what is told as done, how things stand, what is announced; days and times."""

from __future__ import annotations

import re

from records.derive.languages.rules import Rules, Times, any_of, numbered, words_of

# -- days and times ---------------------------------------------------------------------------------------------------

_WEEKDAYS = numbered("lundi mardi mercredi jeudi vendredi samedi dimanche")
_MONTHS = numbered("janvier février mars avril mai juin juillet août/aout septembre octobre novembre décembre", 1)
_NUMBERS = numbered(
    "zéro un/une deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept "
    "dix-huit dix-neuf vingt"
)
_TENS = {"vingt": 20, "trente": 30, "quarante": 40, "cinquante": 50}
_NUMBERS |= _TENS | {f"{ten} {one}": _TENS[ten] + _NUMBERS[one] for ten in _TENS for one in list(_NUMBERS)[3:11]}
_NUMBERS |= {f"{ten} et {one}": _TENS[ten] + 1 for ten in _TENS for one in ("un", "une")} | {"premier": 1, "1er": 1}
_PARTS = {"et demie": 30, "et demi": 30, "et quart": 15, "le quart": 15}
_AHEAD = {"pour aujourd'hui": 0, "demain": 1, "après demain": 2}
_N = rf"(?:\d{{1,2}}|{words_of(_NUMBERS)})"

TIMES = Times(
    weekdays=_WEEKDAYS,
    months=_MONTHS,
    numbers=_NUMBERS,
    parts=_PARTS,
    ahead=_AHEAD,
    dates=any_of(
        rf"\b(?P<day>1er|{_N}) (?P<month>{words_of(_MONTHS)})\b",
        rf"\b(?P<weekday>{words_of(_WEEKDAYS)})\b",
        rf"(?<!vers )\b(?P<ahead>{words_of(_AHEAD)})\b",
    ),
    times=any_of(
        r"\b(?:à |vers |dès )?(?P<h>\d{1,2}) ?(?:h|heures|:) ?(?P<m>\d\d)\b",
        rf"\b(?:à|vers|dès) (?P<h2>{_N}) ?(?:heures?|h) moins (?P<to>)(?P<part2>le quart|{_N})\b",
        rf"\b(?:à|vers|dès) (?P<h3>{_N}) ?(?:heures?|h) (?P<part3>et demie?|et quart)\b",
        rf"\b(?:à|vers|dès) (?P<h4>{_N}) ?(?:heures?|h)\b(?: (?P<m4>{_N})\b)?",
        r"\bà (?P<noon>midi)\b",
    ),
    link=re.compile(r"[ ,]*(?:(?:le|ce|du|au|pour|matin|après-midi|soir|prochain|dans la journée)[ ,]*)*"),
    also=re.compile(r"[ ,]*(?:et|puis|ainsi que)(?: (?:le|pour|aussi|ensuite|un autre))*[ ,]*"),
    number=re.compile(rf"{_N}(?: ?(?:heures?|h))?(?: ?(?:et|à|-|–|jusqu'à))? *$"),
)

# -- deeds ------------------------------------------------------------------------------------------------------------

_I_DID = (
    r"(?:j'ai|je (?:vous |l'|les |vous l'|vous les )?ai|nous (?:vous )?(?:l'|les )?avons|on (?:vous )?a)(?: bien|"
    r" déjà| donc| aussi| également| tout de suite)*"
)
_YOUR = r"(?:votre|le|ce|vos|les)(?: [\wàâéèêëîïôûùç'-]+){0,2} ?(?:rendez-vous|réservations?|créneaux?|visites?)"
_IS = r"(?:est|sont|a été|ont été|a bien été|ont bien été)(?: bien| maintenant| désormais| déjà| donc)*"
_OF = r"(?: (?:de|du|pour|le|à)(?: [\wàâéèêëîïôûùç':-]+){1,6}?)?"
_W = r"(?:[\wàâéèêëîïôûùç'-]+ ){0,5}?"
_WILL = r"(?:je vais|nous allons|on va|laissez-moi)(?: vous| le| la| les| l'| tout de suite| maintenant| donc)* ?"
_I_DO = r"(?:(?:je|nous|on)(?: vous)?(?: le| la| les| lui| leur)? |(?:je |je vous |nous )?l'|j')"
_TEXT = r"(?:sms|texto|message texte)"
_EMAIL = r"(?:e-?mail|mail|courriel|courrier électronique)"
_THE_DAY = rf"(?:ce |le )?(?:{words_of(_WEEKDAYS)}|demain)\b"

RULES = Rules(
    done={
        "booking": any_of(
            rf"\b{_I_DID} (?:réservée?s?|inscrite?s?|notée?s?|prise?s?|fixée?s?|programmée?s?|planifiée?s?) (?=.*\b(?:"
            r"rendez-vous|créneau|visite|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|demain|heures?)\b)",
            rf"\b{_I_DID} (?:réservée?s?|inscrite?s?)\b",
            rf"\b{_YOUR}{_OF} (?:a|ont)(?: bien)? été (?:réservée?s?|prise?s?|fixée?s?|programmée?s?|enregistrée?s?)\b",
            r"^c'est (?:bien )?réservé\b",
        ),
        "change": any_of(
            rf"\b{_I_DID} (?:déplacée?s?|reportée?s?|décalée?s?|avancée?s?|modifiée?s? (?:le|votre) rendez-vous|"
            rf"changée?s? (?:le|votre) rendez-vous)\b",
            rf"\b{_YOUR}{_OF} {_IS} (?:déplacée?s?|reportée?s?|décalée?s?|avancée?s?|modifiée?s?)\b",
        ),
        "cancellation": any_of(
            rf"\b{_I_DID} annulée?s?\b",
            rf"\b{_YOUR}{_OF} {_IS} annulée?s?\b",
            r"^c'est (?:bien )?annulé\b",
        ),
        "message": any_of(
            rf"\b{_I_DID} (?:transmise?s?|fait suivre|fait passer|communiquée?s?|relayée?s?)\b",
            rf"\b{_I_DID} (?:prise?|notée?|laissée?|enregistrée?) (?:votre|le|un|ce) message\b",
            rf"\b{_I_DID} (?:prévenue?s?|informée?s?|avertie?s?) (?:le|la|les|l'|notre|votre)",
            r"\bvotre message (?:est|a)(?: bien)?(?: été)? (?:transmis|pris|noté|enregistré|passé)\b",
        ),
        "record": any_of(
            rf"\b{_I_DID} (?:mise?s? à jour|corrigée?s?|enregistrée?s?|modifiée?s?|changée?s?) (?:votre|"
            rf"vos) (?:numéro|nom|adresse|coordonnées|"
            r"e-?mail|dossier|informations)",
            r"\b(?:votre|vos) (?:numéro|nom|adresse|coordonnées|e-?mail|dossier|informations) (?:est|sont|a été|"
            r"ont été)(?: bien)? (?:mise?s? à"
            r" jour|corrigée?s?|enregistrée?s?|modifiée?s?)\b",
        ),
        "text": any_of(rf"\b{_I_DID} (?:envoyée?s?|adressée?s?) {_W}{_TEXT}\b"),
        "email": any_of(rf"\b{_I_DID} (?:envoyée?s?|adressée?s?) {_W}{_EMAIL}\b"),
        "anything": any_of(
            r"\bconsidérez (?:que c'est|cela comme|ça comme) (?:fait|réglé)\b",
            r"^(?:et )?(?:voilà )?c'est (?:chose faite|fait|réglé)$",
            r"^tout est (?:réglé|fait)$",
        ),
    },
    state={
        "booking": any_of(
            rf"\b{_YOUR}{_OF} (?:est|sont)(?: bien| maintenant| donc| déjà)* (?:réservée?s?|confirmée?s?|prise?s?|"
            rf"fixée?s?|notée?s?|"
            r"enregistrée?s?|programmée?s?)\b",
            r"\bvous (?:êtes|avez été)(?: bien| donc| maintenant)* (?:inscrite?s?|notée?s?|attendue?s?|"
            r"enregistrée?s?)\b",
            r"\bvous avez (?:bien |donc |déjà )*(?:un |votre )?rendez-vous\b",
            rf"\b(?:on|nous) vous (?:attend|attendons|voit|verrons|verra) {_THE_DAY}",
            rf"^(?:alors |donc )?à {_THE_DAY}",
        ),
        "change": any_of(rf"\b{_YOUR} est (?:maintenant|désormais) (?:le|à|pour|{words_of(_WEEKDAYS)})\b"),
    },
    announced={
        "booking": any_of(
            rf"\b{_WILL}(?:réserver|inscrire|noter pour|prendre (?:le|votre|ce) rendez-vous)\b",
            rf"\b{_I_DO}(?:réserve|réservons|réserverai|inscris|inscrirai)\b",
        ),
        "change": any_of(
            rf"\b{_WILL}(?:déplacer|reporter|décaler|avancer)\b",
            rf"\b{_I_DO}(?:déplace|déplaçons|reporte|décale|déplacerai|reporterai|décalerai)\b",
        ),
        "cancellation": any_of(
            rf"\b{_WILL}annuler\b",
            rf"\b{_I_DO}(?:annule|annulons|annulerai)\b",
        ),
        "message": any_of(
            rf"\b{_WILL}(?:transmettre|faire suivre|faire passer|prévenir|informer|avertir)\b",
            rf"\b{_I_DO}(?:transmets|transmettons|transmettrai|transmettrons|fais suivre|ferai suivre|fais passer|"
            rf"préviens|préviendrai)\b",
            r"\b(?:rappellera|rappelleront|rappellerons|recontactera|recontacteront|contactera|contacteront|"
            r"(?:va|vont|allons) vous (?:rappeler|recontacter|contacter)|vous (?:rappelle|rappelons) (?:dans|dès|au|"
            r"ce|cet|demain|lundi|mardi|"
            r"mercredi|jeudi|vendredi))\b",
            r"\bvous serez (?:rappelée?|recontactée?|contactée?)\b",
        ),
        "record": any_of(
            rf"\b{_WILL}(?:mettre à jour|corriger|enregistrer|modifier) (?:votre|vos|cela|ça)\b",
            rf"\b{_I_DO}(?:corrige|corrigerai|mets à jour|mettrai à jour) (?:votre|vos|cela|ça)\b",
        ),
        "transfer": any_of(
            rf"\b{_WILL}(?:passer|transférer|mettre en (?:relation|communication))\b",
            r"\bje (?:vous|le|la) (?:passe|transfère|mets en (?:relation|communication))\b",
        ),
        "text": any_of(
            rf"\b(?:{_WILL}(?:envoyer|adresser)|{_I_DO}(?:envoie|envoyons|enverrai|enverrons|adresse)) {_W}{_TEXT}\b",
            rf"\bvous (?:recevrez|allez recevoir) {_W}{_TEXT}\b",
        ),
        "email": any_of(
            rf"\b(?:{_WILL}(?:envoyer|adresser)|{_I_DO}(?:envoie|envoyons|enverrai|enverrons|adresse)) {_W}{_EMAIL}\b",
            rf"\bvous (?:recevrez|allez recevoir) {_W}{_EMAIL}\b",
        ),
    },
    sure=re.compile(
        r"\b(?:je (?:peux|puis) vous confirmer(?: que)?|je vous confirme(?: que)?|"
        r"j'ai le plaisir de vous confirmer(?: que)?)\b"
    ),
    unless=re.compile(
        r"\b(?:si|quand|lorsque|dès que|une fois|avant que|après que|sauf|à moins|au cas où|voulez-vous|"
        r"souhaitez-vous)\b|\bs'il(?! vous)"
    ),
    not_so=re.compile(
        r"\b(?:ne|pas|jamais|rien|aucune?|personne|sans|peux|peut|pouvons|pouvez|pourrais|pourrait|pourrions|si|"
        r"quand|voulez|"
        r"souhaitez|aimeriez|voudriez|dois|devons|faut|essaie|essayer|aurait|aurais|serait|avant)\b|\bn'"
    ),
    asks_again=re.compile(
        r"^(?:est-ce|c'est|cela|ça|d'accord|ok|okay|correct|voulez|dois|puis|oui|vous|on|parfait|bon|entendu|"
        r"êtes-vous)\b"
    ),
    generic=any_of(
        r"\b(?:c'est (?:fait|noté|réglé|bon|confirmé|réservé|annulé)|voilà|tout est (?:réglé|bon)|à (?:lundi|mardi|"
        r"mercredi|jeudi|"
        r"vendredi|samedi|demain|bientôt)|on vous attend|nous vous attendons)\b",
        r"\b(?:réservé|confirmé|inscrit|déplacé|reporté|annulé|transmis|noté|enregistré|corrigé)e?s?\b",
        r"\bmis(?:es)? à jour\b",
    ),
    several={
        2: re.compile(r"\b(?:les deux|deux (?:rendez-vous|réservations|visites))\b"),
        3: re.compile(r"\b(?:les trois|trois (?:rendez-vous|réservations|visites))\b"),
    },
    further=re.compile(r"\b(?:aussi|également|un autre|une autre|le deuxième|le second|en plus)\b"),
    times=TIMES,
)
