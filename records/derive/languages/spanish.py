"""Spanish: what is told as done, how things stand, what is announced; days and times."""

from __future__ import annotations

import re

from records.derive.languages.rules import Rules, Times, any_of, numbered, words_of

# -- days and times ---------------------------------------------------------------------------------------------------

_WEEKDAYS = numbered("lunes martes miércoles/miercoles jueves viernes sábado/sabado domingo")
_MONTHS = numbered(
    "enero febrero marzo abril mayo junio julio agosto septiembre/setiembre octubre noviembre diciembre", 1
)
_NUMBERS = numbered(
    "cero uno/una dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno/veintiuna veintidós veintitrés veinticuatro veinticinco veintiséis "
    "veintisiete veintiocho veintinueve treinta"
) | {"primero": 1, "cuarenta": 40, "cincuenta": 50}
_TENS = {"treinta": 30, "cuarenta": 40, "cincuenta": 50}
_NUMBERS |= {f"{ten} y {one}": _TENS[ten] + _NUMBERS[one] for ten in _TENS for one in list(_NUMBERS)[1:11]}
_PARTS = {"media": 30, "cuarto": 15}
_AHEAD = {"para hoy": 0, "pasado mañana": 2, "mañana": 1}
_N = rf"(?:\d{{1,2}}|{words_of(_NUMBERS)})"

TIMES = Times(
    weekdays=_WEEKDAYS,
    months=_MONTHS,
    numbers=_NUMBERS,
    parts=_PARTS,
    ahead=_AHEAD,
    dates=any_of(
        rf"\b(?:día )?(?P<day>{_N}) de (?P<month>{words_of(_MONTHS)})\b",
        rf"\b(?P<weekday>{words_of(_WEEKDAYS)})\b",
        rf"(?<!la )(?<!esta )(?<!cada )\b(?P<ahead>{words_of(_AHEAD)})\b",
    ),
    times=any_of(
        r"\b(?:a las? )?(?P<h>\d{1,2})[:.](?P<m>\d\d)(?: ?(?P<ap>[ap]m)\b)?(?!\d)",
        rf"\ba las? (?P<h2>{_N}) menos (?P<to>)(?P<part2>{words_of(_PARTS)}|{_N})\b",
        rf"\ba las? (?P<h3>{_N}) y (?P<part3>{words_of(_PARTS)}|{_N})\b",
        rf"\ba las? (?P<h4>{_N})(?: (?P<m4>{_N}))?\b(?: ?(?P<ap4>[ap]m)\b)?(?!:)",
        r"\bal? (?P<noon>mediodía)\b",
    ),
    link=re.compile(r"[ ,]*(?:(?:el|la|a|de|del|día|por|para|mañana|tarde|noche|próximo|que viene)[ ,]*)*"),
    also=re.compile(r"[ ,]*(?:y|e)(?: (?:el|la|para|también|otra|luego|a))*[ ,]*"),
    number=re.compile(rf"{_N}(?: ?(?:a|y|hasta|-|–))? *$"),
)

# -- deeds ------------------------------------------------------------------------------------------------------------

_HE = r"(?:ya )?(?:(?:se )?(?:le|te|la|lo|los|las|les) )?(?:he|hemos|ha|han)(?: sido)?(?: podido)?"
_QUEDA = r"(?:queda|quedan|quedó|quedado|está|están|ya está|ha quedado|se ha)(?: usted)?(?: ya| todo)?(?: quedado)?"
_VOY = r"(?:voy a|vamos a|permítame|déjeme)"
_LE = r"(?:se )?(?:le|te|la|lo|se lo|se la)"
_TEXT = r"(?:un|otro|el) (?:mensaje de texto|sms|whatsapp)"
_EMAIL = r"(?:un|otro|el) (?:correo|e-?mail|correo electrónico)"
_WHAT = r"(?:[\wáéíóúñ]+ ){0,5}?"
_THE_DAY = rf"(?:el |este |el próximo )?(?:{words_of(_WEEKDAYS)}|mañana)\b"

RULES = Rules(
    done={
        "booking": any_of(
            rf"\b{_HE} (?:reservad[oa]|agendad[oa]|programad[oa]|apuntad[oa]|concertad[oa])s?\b",
            r"\b(?:reservé|agendé|programé|apunté)\b",
            rf"\b{_HE} (?:reservar|agendar|programar)(?:le|la|lo)?\b",
        ),
        "change": any_of(
            rf"\b(?:{_HE}|{_QUEDA}) (?:cambiad[oa]|movid[oa]|trasladad[oa]|reprogramad[oa]|aplazad[oa]|"
            r"adelantad[oa])s?\b",
            r"\b(?:cambié|moví|reprogramé|trasladé|adelanté|aplacé)\b",
        ),
        "cancellation": any_of(
            rf"\b(?:{_HE}|{_QUEDA}) (?:cancelad[oa]|anulad[oa])s?\b",
            r"\b(?:cancelé|anulé)\b",
        ),
        "message": any_of(
            rf"\b{_HE} (?:pasado|dejado|anotado|tomado|transmitido|enviado|apuntado) (?:el|su|tu|un|una|"
            r"la) (?:mensaje|recado|nota|aviso)\b(?! de texto)",
            rf"\b(?:mensaje|recado|aviso) (?:ya )?(?:{_QUEDA}|ha sido) (?:pasado|anotado|enviado|transmitido|"
            r"registrado)\b",
        ),
        "record": any_of(
            rf"\b{_HE} (?:actualizado|corregido|guardado|anotado|registrado) (?:su|sus|el|la|los|"
            r"una)\b(?! (?:mensaje|recado))",
            rf"\b(?:sus? (?:datos|número|nombre|correo|dirección|teléfono)) {_QUEDA} (?:actualizad|corregid|"
            r"guardad|anotad|cambiad)[oa]s?\b",
        ),
        "text": any_of(rf"\b{_HE} (?:enviado|mandado) {_WHAT}{_TEXT}\b"),
        "email": any_of(
            rf"\b{_HE} (?:enviado|mandado) {_WHAT}(?:{_EMAIL}|por (?:correo|e-?mail)|a su (?:correo|e-?mail))\b"
        ),
        "anything": any_of(
            r"\b(?:del?o por hecho|delo por hecho|dalo por hecho|cuente con ello)\b",
            r"\b(?:eso |ya |todo )*está (?:hecho|arreglado|solucionado)$",
        ),
    },
    state={
        "booking": any_of(
            rf"\b{_QUEDA} (?:reservad[oa]|agendad[oa]|confirmad[oa]|programad[oa]|apuntad[oa])s?\b",
            r"\btiene (?:ya )?(?:su|una|la) cita\b",
            rf"\b(?:l[eoa]s? esperamos|nos vemos|l[eoa]s? vemos) {_THE_DAY}",
            rf"^hasta {_THE_DAY}",
        ),
        "change": any_of(r"\bsu cita (?:es|está|queda) ahora\b"),
    },
    announced={
        "booking": any_of(
            rf"\b(?:{_LE} )?(?:reservaré|agendaré|programaré|apuntaré)\b",
            rf"\b{_LE} (?:reservo|agendo|programo|apunto)\b",
            rf"\b{_VOY} (?:reservar|agendar|programar|apuntar)(?:le|la|lo|se)?\b",
        ),
        "change": any_of(
            rf"\b(?:{_LE} )?(?:cambiaré|moveré|reprogramaré|trasladaré)\b",
            rf"\b(?:{_LE} (?:cambio|muevo|reprogramo|traslado)|(?:cambio|muevo|reprogramo) su cita)\b",
            rf"\b{_VOY} (?:cambiar|mover|reprogramar|trasladar)(?:le|la|lo)?\b",
        ),
        "cancellation": any_of(
            rf"\b(?:{_LE} )?(?:cancelaré|anularé|cancelo|anulo)\b",
            rf"\b{_VOY} (?:cancelar|anular)(?:le|la|lo)?\b",
        ),
        "message": any_of(
            rf"\b(?:{_LE} )?(?:pasaré|transmitiré|dejaré|enviaré|comunicaré|haré llegar|diré)\b(?! (?:adiós|con))",
            rf"\b{_LE} paso (?:el|su|un|este) (?:mensaje|recado)\b",
            rf"\b{_VOY} (?:pasar|dejar|transmitir|enviar|anotar)(?:le|lo|la|les)? (?:el|su|un|este) (?:mensaje|"
            r"recado|aviso)\b(?! de texto)",
            r"\b(?:le|lo|la|te|les) (?:llamarán|llamará|llamaremos|devolverán|devolveremos|devolverá|"
            r"contactarán|contactará|contactaremos|van a llamar|vamos a llamar|va a llamar)\b",
            r"\bse pondrán? en contacto\b",
        ),
        "record": any_of(
            rf"\b{_VOY} (?:actualizar|corregir|guardar)(?:le|lo|la)?\b",
            r"\b(?:actualizaré|corregiré|guardaré) (?:su|sus|el|los|la)\b",
        ),
        "transfer": any_of(
            rf"\b{_LE} (?:paso|transfiero|comunico|conecto|pasaré|transferiré|comunicaré|conectaré) con\b",
            rf"\b{_VOY} (?:transferir|pasar|comunicar|conectar)(?:le|lo|la) con\b",
        ),
        "text": any_of(
            rf"\b(?:{_LE} (?:envío|enviaré|mando|mandaré|enviamos|enviaremos)|{_VOY} (?:enviar|mandar)(?:le)?) "
            rf"{_WHAT}{_TEXT}\b",
            rf"\brecibirá {_WHAT}{_TEXT}\b",
        ),
        "email": any_of(
            rf"\b(?:{_LE} (?:envío|enviaré|mando|mandaré|enviamos|enviaremos)|{_VOY} (?:enviar|mandar)(?:le)?) "
            rf"{_WHAT}(?:{_EMAIL}|por (?:correo|e-?mail)|a su (?:correo|e-?mail))\b",
            rf"\brecibirá {_WHAT}(?:{_EMAIL}|por (?:correo|e-?mail))\b",
        ),
    },
    sure=re.compile(r"\b(?:puedo confirmar(?:le)?(?: que)?|le confirmo(?: que)?)\b"),
    unless=re.compile(r"\b(?:si|cuando|en cuanto|una vez|antes de que|después de que|a menos)\b"),
    not_so=re.compile(
        r"\b(?:no|nunca|todavía|aún|tampoco|nada|nadie|sin|puedo|podemos|puede|podría|si|cuando|quiere|necesito|"
        r"necesita)\b"
    ),
    asks_again=re.compile(r"^(?:está|es correcto|le parece|de acuerdo|correcto|confirma|vale)\b|^¿"),
    generic=any_of(
        r"\b(?:listo|hecho|arreglado|solucionado|nos vemos|l[eoa] esperamos|hasta el)\b",
        r"\b(?:reservad|agendad|confirmad|cambiad|movid|cancelad|anulad|anotad|guardad|actualizad|registrad)[oa]s?\b",
    ),
    several={
        2: re.compile(r"\b(?:ambas|ambos|las dos|los dos|dos (?:citas|reservas|visitas))\b"),
        3: re.compile(r"\b(?:las tres|tres (?:citas|reservas|visitas))\b"),
    },
    further=re.compile(r"\b(?:también|otra|otro|además|la segunda)\b"),
    times=TIMES,
)
